"""Whether an artifact does what the student does, and what it costs, measured where it will run.

That is: from encoded images on, in a process of its own, in its own runtime, without this package.
"""
