"""What is wrong with a deployment, and what to do about it: one file a place to look at."""
