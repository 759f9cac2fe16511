"""The identity station: DICOM in, de-identified DICOM out. The only package that imports pydicom."""
