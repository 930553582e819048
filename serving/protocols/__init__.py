"""The wire protocols that clients may use, all over one `Service`."""
