"""The generated API (gRPC and host protocol). Nothing handwritten lives below."""
