"""`ns-train gaussworld`: nerfstudio's splatfacto on GaussWorld's rasterizer, so that it needs no GPU."""
