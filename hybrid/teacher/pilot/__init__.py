"""The pilot: compare prompt strategies by accuracy and price on trusted rows, before a whole run is paid for."""
