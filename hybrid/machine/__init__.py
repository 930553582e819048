"""What this machine is: its processor, and the threads and the memory that this process may use."""
