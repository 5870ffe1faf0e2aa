-- What wrk sends and tells: everything comes in variables.
--
-- REQUEST is the text of a request, in which # is a number from 1 to NUMBERS, then from 1 again, beginning after
-- FIRST. With ZIPF set, it is one of these by chance, n times less often n than 1. With MORE set, it ends when each has
-- been answered, which is after so many more answers: those to the last ones may come late. With OWN set, each request
-- has a field that no other has, in this run or the one before.

local text = os.getenv("REQUEST")
local before, after = text:match("^([^#]*)#(.*)$")
local numbers = tonumber(os.getenv("NUMBERS") or "0")
local sent, answered = tonumber(os.getenv("FIRST") or "0"), 0
local zipf = os.getenv("ZIPF")
local own = os.getenv("OWN") and os.time() % 100000 * 10000000
math.randomseed(1)

function asked()
   if not before then
      return text
   end
   if zipf then
      return before .. string.format("%d", (numbers + 1) ^ math.random()) .. after
   end
   sent = sent + 1
   if numbers > 0 and sent > numbers then
      sent = 1
   end
   return before .. string.format("%d", sent) .. after
end

function request()
   if not own then
      return asked()
   end
   own = own + 1
   return asked():sub(1, -3) .. string.format("X-Own: %d\r\n\r\n", own)
end

if os.getenv("MORE") then
   local enough = numbers + tonumber(os.getenv("MORE"))
   function response()
      answered = answered + 1
      if answered == enough then
         os.exit(0)
      end
   end
end

function done(summary, latency)
   local errors = summary.errors
   local broken = errors.connect + errors.read + errors.write + errors.timeout
   local told = '\nJSON {"requests": %d, "microseconds": %d, "bytes": %d, "wrong": %d, "broken": %d, '
      .. '"p99": %d, "max": %d}\n'
   io.write(string.format(told, summary.requests, summary.duration, summary.bytes, errors.status, broken,
      latency:percentile(99), latency.max))
end
