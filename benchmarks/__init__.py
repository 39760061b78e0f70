"""One command per published figure or proof; each runs real services and prints one line of JSON last."""
