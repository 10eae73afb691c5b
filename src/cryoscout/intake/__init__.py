"""From a person's files and folders to one session: what is read, how it is joined, and how it enters the store."""
