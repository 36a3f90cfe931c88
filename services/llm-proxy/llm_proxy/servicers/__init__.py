"""The gRPC face, for services and clients."""
