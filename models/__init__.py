"""Data, training and scoring. No Faust."""
