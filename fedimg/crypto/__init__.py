"""Keys and signatures: the only package that imports `cryptography`. Nothing here knows images."""
