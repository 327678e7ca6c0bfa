"""What XLA's CPU backend runs well, each the equal of a plain form outside of this room."""
