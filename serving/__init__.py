"""The web service over `hybrid.runtime`: a bundle becomes a service that says what it knows and what it does not."""
