"""What others start us with: containers, units, manifests."""
