"""Where audio comes from: its own address, a folder of music, savify."""
