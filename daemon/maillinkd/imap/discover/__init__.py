"""Where an address's mail is to be had: server, port, TLS, user name. Asked of the world, never believed blindly."""
