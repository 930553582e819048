"""What waits for the engine: who is let in, who runs next and in whose company."""
