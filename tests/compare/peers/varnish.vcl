# Varnish as a reverse proxy of the one origin: what is no-store is no reason to ask one by one.
vcl 4.1;

backend origin {
    .host = "127.0.0.1";
    .port = "@ORIGIN@";
}

sub vcl_recv {
    if (req.url ~ "/never/") {
        return (pass);
    }
}
