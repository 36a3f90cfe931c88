"""The router's doors: proto in, domain call, proto out."""
