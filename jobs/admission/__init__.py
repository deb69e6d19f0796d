"""What a request must be to become a job, checked before anything is written: by the API and for lines of a file."""
