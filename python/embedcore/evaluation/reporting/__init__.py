"""The report of a comparison of two generations, over all consumers.

document   what is measured, put together: plain data, which is also the JSON that machines read
page       one HTML file that needs nothing else; charts: its inline SVG
"""
