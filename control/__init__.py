"""The control worker: the chores that keep the queue tidy."""
