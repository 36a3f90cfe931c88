"""The OpenAPI document, made from the protos: the same contract, as REST clients read it."""
