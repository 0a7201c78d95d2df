"""What shows that the service works: an invented world, raters with a gold preference, and the demo base model."""
