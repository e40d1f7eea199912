"""The gRPC server: servicers, translation, error mapping, interceptors. Never holds a rule of the domain."""
