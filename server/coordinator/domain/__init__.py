"""What competitions are and may do: pure rules, no input or output."""
