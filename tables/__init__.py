"""What is remembered, a table per noun."""
