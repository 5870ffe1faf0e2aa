"""Python's httpx through a proxy: python get.py PROXY URL. Prints the response as head and body."""

import sys

import httpx

proxy, url = sys.argv[1:]
with httpx.Client(proxy=proxy) as client:
    response = client.get(url)
head = f"HTTP/1.1 {response.status_code}\n" + "".join(f"{n}: {v}\n" for n, v in response.headers.multi_items())
sys.stdout.write(head + "\n" + response.text)
