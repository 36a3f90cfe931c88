"""The gRPC face of the service: proto in, domain call, proto out."""
