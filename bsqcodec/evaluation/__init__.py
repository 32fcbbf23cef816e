"""Rate-distortion evaluation: data sets, the codecs people use, measures, BD-rates and a report.

sources   what is coded: pictures and clips, from data sets (datasets, fetch), folders and files
codecs    what codes it: bsqc and the anchors (stills, video, ffmpeg), through files on disk
trial     one picture or clip through one codec at one setting; runner does many, cache remembers them
points    means over the set; bdrate, published, tables, plots and report are made of them
"""
