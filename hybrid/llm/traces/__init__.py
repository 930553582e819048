"""Every answer that was paid for, kept by its whole request."""
