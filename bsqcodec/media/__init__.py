"""Reading and writing of ordinary media files: PyAV for video, Pillow for stills."""
