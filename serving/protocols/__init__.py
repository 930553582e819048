"""The shapes in which clients ask and are answered, all over one `Service`."""
