"""A small honest benchmark: teachers from scratch, students without labels, small photographs."""
