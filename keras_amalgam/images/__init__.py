"""What an image is, decided once: checks, files, canvas, resize, preprocessing."""
