"""What happens around every call, on the server's side and on the client's."""
