"""Schedules work for the engine: admission of requests, their queue, and the choice of batches."""
