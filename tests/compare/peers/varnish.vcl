# Varnish as a reverse proxy of the one origin: what is no-store is no reason to ask one by one, and what is larger than
# 64 MiB is not stored.
vcl 4.1;

import std;

backend origin {
    .host = "127.0.0.1";
    .port = "@ORIGIN@";
}

sub vcl_recv {
    if (req.url ~ "/never/") {
        return (pass);
    }
}

sub vcl_backend_response {
    if (std.integer(beresp.http.Content-Length, 0) > 67108864) {
        set beresp.uncacheable = true;
    }
}
