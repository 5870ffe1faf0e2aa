# For Python's application servers: tells what they took for a request.


def wsgi(environ, start_response):
    content = 0
    while chunk := environ['wsgi.input'].read(1 << 16):
        content += len(chunk)
    target = environ.get('RAW_URI') or environ['REQUEST_URI']
    start_response(
        '200 OK',
        [
            ('X-Seen', f'{environ["REQUEST_METHOD"]} {target}'),
            ('X-Content', str(content)),
            ('Content-Length', '0'),
        ],
    )
    return []


async def asgi(scope, receive, send):
    content = 0
    while True:
        event = await receive()
        if event['type'] != 'http.request':
            return
        content += len(event['body'])
        if not event.get('more_body'):
            break
    target = scope['raw_path'] + (b'?' + scope['query_string'] if scope['query_string'] else b'')
    headers = [
        (b'x-seen', scope['method'].encode() + b' ' + target),
        (b'x-content', str(content).encode()),
        (b'content-length', b'0'),
    ]
    await send({'type': 'http.response.start', 'status': 200, 'headers': headers})
    await send({'type': 'http.response.body', 'body': b''})
