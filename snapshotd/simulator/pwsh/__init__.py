"""The PowerShell engine: runs what it is sent in a real PowerShell, over a stub Hyper-V module that acts on the model.

`hyperv-cmdlets.json` holds parameters, enums and properties of the module's cmdlets as reflected on a real host.
"""
