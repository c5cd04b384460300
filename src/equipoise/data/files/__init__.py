"""Files of rows, one module for each kind of container; the content decides which it is, never the name.

bounds       how large, deep and wide a row may be       open_bytes   the bytes of a file, decompressed
foreign      what a file that holds no rows is            json_values  JSON with duplicate keys and depth noticed
json_rows    JSON lines, an array, an object of columns   csv_rows     comma-, semicolon- and tab-separated values
arrow_rows   Parquet, Arrow IPC files and streams         kinds        which of them a file is
folders      shards and saved data sets in a folder       hub          data sets of the Hugging Face Hub
"""
