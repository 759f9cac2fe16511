"""The watcher: DICOM comes in, released models look at it, alerts go out. Patient data never leave this process and its folder."""
