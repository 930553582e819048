"""Label cleaning: estimate what each training row's label should be, and decide what to do with the row."""
