"""What the domain needs from the outside world, as protocols that adapters implement."""
