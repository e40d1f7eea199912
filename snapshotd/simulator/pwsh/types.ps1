# Writes a library of Hyper-V's types, under their own names: enums, objects with all the properties that the real ones
# have, and the exception of its errors. Its data stands above it ($EnumMembers, $ClassFields); $args[0] is the file.
# A library, since making the types in each process would double the time that the module takes to load.

$ErrorActionPreference = 'Stop'
if ($null -eq ('System.Reflection.Emit.PersistedAssemblyBuilder' -as [type])) {
    [Console]::Error.Write("PowerShell 7.5 or later is needed, and this is $($PSVersionTable.PSVersion)")
    exit 1
}
$made = @{}

function Get-Type([string]$name) {
    if ($made.ContainsKey($name)) { return $made[$name] }
    if ($name -notmatch '^System\.Nullable\[(.+)\]$') { return [type]$name }
    [Nullable`1].MakeGenericType([type[]]@((Get-Type $Matches[1])))
}

function Add-Enum($module, [string]$name, [string]$members) {
    $builder = $module.DefineEnum($name, 'Public', [int])
    foreach ($member in $members.Split(';')) {
        $word, $number = $member.Split('=')
        [void]$builder.DefineLiteral($word, [int]$number)
    }
    $made[$name] = $builder.CreateType()
}

function Add-Class($module, [string]$name, [string]$base, [string]$fields) {
    $parent = if ($base) { Get-Type $base } else { [object] }
    $builder = $module.DefineType($name, 'Public', $parent)
    foreach ($field in $fields.Split(';', [StringSplitOptions]::RemoveEmptyEntries)) {
        $word, $type = $field.Split('=')
        [void]$builder.DefineField($word, (Get-Type $type), 'Public')
    }
    $made[$name] = $builder.CreateType()
}

function Add-Exception($module) {
    $base = [InvalidOperationException]
    $builder = $module.DefineType('Microsoft.HyperV.PowerShell.VirtualizationException', 'Public', $base)
    $code = $builder.DefineConstructor('Public', 'Standard', [type[]]@([string])).GetILGenerator()
    $code.Emit([Reflection.Emit.OpCodes]::Ldarg_0)
    $code.Emit([Reflection.Emit.OpCodes]::Ldarg_1)
    $code.Emit([Reflection.Emit.OpCodes]::Call, $base.GetConstructor([type[]]@([string])))
    $code.Emit([Reflection.Emit.OpCodes]::Ret)
    [void]$builder.CreateType()
}

$name = [Reflection.AssemblyName]::new('Microsoft.HyperV.PowerShell.Stubs')
$assembly = [Reflection.Emit.PersistedAssemblyBuilder]::new($name, [object].Assembly)
$module = $assembly.DefineDynamicModule('Stubs')
foreach ($enum in $EnumMembers.GetEnumerator()) { Add-Enum $module $enum.Key $enum.Value }
foreach ($class in $ClassFields.GetEnumerator()) { Add-Class $module $class.Key $class.Value[0] $class.Value[1] }
Add-Exception $module
$assembly.Save($args[0])
