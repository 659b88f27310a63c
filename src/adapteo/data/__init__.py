"""Rasters, splits and datasets; `raster` is the only importer of rasterio."""
