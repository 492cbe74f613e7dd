"""A user study: pictures of several runs as a page for participants, and their answers as rates with intervals."""
