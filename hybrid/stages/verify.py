"""verify: blind votes of the teacher on training rows (`hybrid.teacher.vote_collection`), and imported ones."""
