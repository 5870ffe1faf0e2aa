//! What a fully conforming shared cache does, sentence by sentence, and the tests that show it.
//!
//! A row is an id, the requirement, and at least one test: `module::name` of this crate, or `it::file::name` of
//! `tests/it` for what only real sockets can show. A requirement without a test, a test that is not there and
//! an id that stands twice fail the test below.

#[rustfmt::skip]
const REQUIREMENTS: &[(&str, &str, &[&str])] = &[
    // Forwarding.
    ("FW-01", "Unknown methods and PUT, POST and DELETE bodies pass.", &["it::methods::known_and_unknown_methods_pass_with_their_content", "it::methods::content_on_get_and_delete_passes_and_is_not_stored", "it::forwarding::every_version_framing_and_size_passes_unchanged_both_ways"]),
    ("FW-02", "Any final status from 200 to 599 passes, 299, 499 and 599 too.", &["it::forwarding::every_final_status_passes"]),
    ("FW-03", "But an origin's 407.", &["it::errors::broken_answers_are_502_and_none_of_their_bytes_pass", "it::parents::a_407_from_the_parent_is_our_502_with_the_reason"]),
    ("FW-04", "On a miss end-to-end fields pass unchanged: repeated lines, empty values, Age and Date as received.", &["it::forwarding::end_to_end_fields_pass_unchanged_on_a_miss"]),
    ("FW-05", "Hop-by-hop fields and each field named in Connection are dropped in both directions.", &["it::hop_by_hop::request_fields_of_one_connection_do_not_reach_the_origin", "it::hop_by_hop::response_fields_of_one_connection_reach_no_client_live_or_stored"]),
    ("FW-06", "A body longer than its Content-Length is cut there, and that origin connection is not used again.", &["it::forwarding::a_body_longer_than_its_content_length_is_cut_and_the_connection_not_used_again"]),
    ("FW-07", "An unknown Transfer-Encoding from an origin without framing reads to the close.", &["it::forwarding::a_body_under_an_unknown_transfer_coding_passes_as_it_is_until_the_close"]),
    ("FW-08", "An origin that closes without answering gives 502, never a closed client connection.", &["it::errors::broken_answers_are_502_and_none_of_their_bytes_pass", "it::errors::a_reset_before_the_answer_is_502"]),
    ("FW-09", "Idle origin connections are dropped before the origin's advertised Keep-Alive: timeout.", &["pooling::an_idle_connection_is_dropped_a_second_before_its_origin_would_close_it", "it::pool::a_connection_that_the_origin_closes_is_not_used_again"]),
    // Interim.
    ("IR-01", "Every 1xx is relayed on a miss: 102, 103, 104 and unknown ones.", &["it::interim::interim_responses_reach_the_client_before_the_final_one_is_ready", "it::interim::they_come_before_the_answer_to_an_upload_too"]),
    ("IR-02", "But 101, and a 100 that we asked for.", &["it::errors::broken_answers_are_502_and_none_of_their_bytes_pass", "it::expect::the_client_is_told_to_continue_when_the_origin_says_so", "it::expect::a_client_that_does_not_wait_loses_nothing"]),
    ("IR-03", "At once, in order, with all fields but hop-by-hop ones.", &["it::interim::interim_responses_reach_the_client_before_the_final_one_is_ready", "it::interim::hop_by_hop_fields_are_dropped_from_them"]),
    ("IR-04", "Never stored, replayed, or merged into the final response.", &["it::interim::interim_responses_reach_the_client_before_the_final_one_is_ready"]),
    ("IR-05", "None to HTTP/1.0 clients.", &["it::interim::an_http_1_0_client_gets_none", "it::expect::an_http_1_0_client_expects_nothing"]),
    ("IR-06", "Safely: each before the response of its own request, few, and at the client's pace.", &["it::interim::pipelined_requests_each_get_their_own", "it::interim::a_flood_of_them_is_an_error_of_the_origin", "it::interim::a_client_that_does_not_read_interim_responses_is_cut_off_at_the_limit"]),
    // Cache-Control.
    ("CC-01", "All lines combined, names case-insensitive.", &["cache_control::all_lines_are_combined_and_names_are_case_insensitive"]),
    ("CC-02", "Quoted strings respected: a max-age inside one is none.", &["cache_control::a_directive_inside_a_quoted_string_is_none"]),
    ("CC-03", "Token and quoted argument forms.", &["cache_control::delta_seconds_are_digits_only_and_saturate", "list::quoted_forms_lose_their_quotes_and_escapes"]),
    ("CC-04", "Unknown directives ignored.", &["cache_control::unknown_directives_are_ignored"]),
    ("CC-05", "Delta-seconds: digits only, leading zeros, saturating at 2^31.", &["cache_control::delta_seconds_are_digits_only_and_saturate"]),
    ("CC-06", "Anything else is invalid: stale.", &["freshness::an_invalid_or_conflicting_delta_is_stale_even_beside_expires"]),
    ("CC-07", "Conflicting duplicates: stale.", &["cache_control::conflicting_duplicates_are_invalid_and_equal_ones_are_one", "freshness::an_invalid_or_conflicting_delta_is_stale_even_beside_expires"]),
    // Lifetime.
    ("LT-01", "s-maxage over max-age over Expires minus Date over heuristic.", &["freshness::s_maxage_goes_over_max_age_over_expires_over_heuristic"]),
    ("LT-02", "max-age=0 beats Expires; a positive one beats a past or invalid Expires.", &["freshness::max_age_beats_expires_whichever_way"]),
    ("LT-03", "Invalid Expires: stale. Expires at or before Date: stale, even if both lie ahead.", &["freshness::expires_counts_from_date_and_is_stale_when_invalid_or_not_later"]),
    ("LT-04", "Date missing or invalid: time of receipt.", &["freshness::a_missing_or_invalid_date_is_the_time_of_receipt"]),
    ("LT-05", "Fresh only while lifetime > age.", &["freshness::fresh_means_that_the_lifetime_exceeds_the_age"]),
    // Dates.
    ("DT-01", "IMF-fixdate, RFC 850, asctime.", &["date::all_three_forms_are_read"]),
    ("DT-02", "RFC 850: over 50 years ahead means the past century.", &["date::a_two_digit_year_over_fifty_years_ahead_is_of_the_past_century"]),
    ("DT-03", "Letter case does not matter, nor does the weekday's truth.", &["date::letter_case_and_the_truth_of_the_weekday_do_not_matter"]),
    ("DT-04", "Otherwise strict.", &["date::everything_else_is_invalid"]),
    ("DT-05", "Several differing Expires lines are invalid.", &["freshness::differing_expires_lines_are_invalid_and_equal_ones_are_one"]),
    ("DT-06", "The same parser reads If-Modified-Since.", &["precondition::if_modified_since_is_compared_by_date_in_all_forms"]),
    // Age.
    ("AG-01", "First member of the joined Age lines, if digits only; else ignored.", &["age::age_is_the_first_member_if_it_is_digits_only"]),
    ("AG-02", "current_age from apparent age, Age + response delay and resident time.", &["age::current_age_comes_from_apparent_age_age_delay_and_residence", "properties::age_never_falls_while_time_passes"]),
    ("AG-03", "Finer than a second, floored at output.", &["age::age_is_kept_finer_than_a_second_and_floored_when_sent"]),
    ("AG-04", "A hit carries exactly one Age; stored Date and Expires are never changed.", &["age::a_hit_has_exactly_one_age_and_date_and_expires_as_stored"]),
    ("AG-05", "No Age on a miss that had none.", &["it::forwarding::end_to_end_fields_pass_unchanged_on_a_miss"]),
    // Heuristic.
    ("HE-01", "Only with Last-Modified; 10 % of Date - Last-Modified, capped.", &["freshness::the_heuristic_is_a_tenth_since_last_modified_and_capped"]),
    ("HE-02", "For the listed statuses, or any with public.", &["freshness::the_heuristic_is_for_the_listed_status_codes_or_public"]),
    ("HE-03", "Response Pragma: no-cache without Cache-Control forbids it.", &["freshness::pragma_in_a_response_forbids_the_heuristic_alone"]),
    // Storability.
    ("ST-01", "Any final status with explicit freshness.", &["storable::any_final_status_is_stored_with_explicit_freshness"]),
    ("ST-02", "no-store, private in any letter case; private=\"x\" counts as unqualified.", &["storable::no_store_and_private_forbid_in_any_letter_case_and_form", "properties::nothing_that_forbids_it_is_ever_stored"]),
    ("ST-03", "A missing Date is set to the time of receipt when stored.", &["storable::a_missing_date_is_that_of_receipt"]),
    ("ST-04", "no-cache is stored and always validated.", &["storable::no_cache_is_stored_to_be_validated", "reuse::fresh_is_served_and_stale_is_validated", "properties::what_needs_validation_is_never_served_without"]),
    ("ST-05", "no-cache=\"a, b\" strips those fields and reuses the rest.", &["cache_control::no_cache_may_name_fields", "age::fields_named_by_no_cache_are_left_out_unless_just_validated"]),
    ("ST-06", "must-understand: understood overrides no-store, else forbids.", &["storable::must_understand_overrides_no_store_where_the_status_is_understood"]),
    ("ST-07", "Authorization: only with public, must-revalidate or s-maxage, then reusable without.", &["storable::authorization_needs_public_must_revalidate_or_s_maxage", "reuse::authorization_and_cookie_in_the_request_do_not_hinder_reuse"]),
    ("ST-08", "Set-Cookie only with public or s-maxage, or by set_cookie = \"rfc9111\"; Cookie does not prevent it.", &["storable::set_cookie_needs_public_or_s_maxage_unless_told_otherwise"]),
    ("ST-09", "The query is part of the key.", &["it::targets::what_an_origin_may_tell_apart_never_shares_a_stored_response"]),
    ("ST-10", "POST with explicit freshness and its own Content-Location is stored as GET.", &["storable::post_is_stored_as_get_when_content_location_is_its_target", "storable::only_post_is"]),
    ("ST-11", "... after the invalidation.", &["it::caching::post_with_its_own_content_location_answers_get"]),
    ("ST-12", "Request no-store: go to the origin, store nothing.", &["reuse::request_no_store_goes_straight_through", "storable::what_the_request_forbids_is_not_stored"]),
    ("ST-13", "Nothing without freshness or validator is stored.", &["storable::what_could_never_answer_anything_is_not_stored", "storable::without_freshness_a_status_must_be_heuristically_cacheable"]),
    ("ST-14", "No GET with content, no other method, no ambiguous framing.", &["storable::what_the_request_forbids_is_not_stored", "storable::ambiguous_framing_is_never_stored_and_close_delimited_by_choice", "reuse::other_methods_content_upgrades_and_ruled_out_targets_go_straight_through"]),
    ("ST-15", "What this request's condition or range brought about is not the resource's response.", &["storable::what_a_condition_or_range_brought_about_does_not_stand_for_the_resource"]),
    // Stored fields.
    ("SF-01", "Everything verbatim, except hop-by-hop fields.", &["storable::everything_is_stored_verbatim_but_hop_by_hop_fields", "fields::fields_come_back_in_order_with_repeats_and_empty_values"]),
    ("SF-02", "Except Connection and what it names.", &["it::hop_by_hop::response_fields_of_one_connection_reach_no_client_live_or_stored"]),
    // Vary.
    ("VA-01", "Any member *: never reused.", &["selection::a_star_anywhere_is_never_stored", "vary::a_star_anywhere_makes_it_any"]),
    ("VA-02", "Several variants for a URI.", &["selection::several_variants_of_a_key_answer_each_its_own_request", "selection::of_several_matching_the_most_recent_by_date_answers"]),
    ("VA-03", "Names case-insensitive; all named fields must match.", &["selection::the_named_fields_must_match_and_no_others", "vary::names_are_case_insensitive_and_counted_once", "selection::the_order_of_names_makes_no_other_variant"]),
    ("VA-04", "Absent matches absent only.", &["selection::absent_matches_absent_only"]),
    ("VA-05", "Lines joined, whitespace round commas outside quotes removed.", &["selection::values_are_normalised_before_they_are_compared", "vary::unknown_fields_lose_line_breaks_and_space_round_commas_only"]),
    ("VA-06", "Accept-Language lower-cased, its order too, switchable.", &["selection::accept_language_is_compared_without_case_and_order", "selection::the_order_of_accept_language_counts_when_the_key_says_so", "vary::accept_language_loses_case_space_and_order"]),
    ("VA-07", "A stored Content-Language equal to the only highest-q language matches.", &["selection::a_response_in_the_only_preferred_language_matches", "vary::the_preferred_language_is_the_only_one_with_the_highest_weight"]),
    ("VA-08", "Accept-Encoding: known codings with q > 0, sorted; unparsable ones by their bytes.", &["selection::accept_encoding_is_compared_as_a_set_of_codings", "vary::accept_encoding_becomes_the_sorted_set_of_known_codings", "vary::an_accept_encoding_that_is_not_understood_stands_for_itself"]),
    // Client conditions.
    ("CO-01", "If-None-Match first.", &["precondition::if_none_match_goes_before_if_modified_since"]),
    ("CO-02", "Weak comparison, lists, *.", &["precondition::if_none_match_is_compared_weakly_over_lists_and_star", "etag::the_comparison_table_of_rfc_9110_holds"]),
    ("CO-03", "Odd entity tags match byte-equal only.", &["precondition::odd_tags_match_by_their_bytes", "etag::malformed_tags_match_by_their_bytes_and_never_strongly"]),
    ("CO-04", "If-Modified-Since by parsed date; no Last-Modified: by Date.", &["precondition::if_modified_since_is_compared_by_date_in_all_forms", "precondition::without_last_modified_date_stands_in"]),
    ("CO-05", "A 304 carries ETag, Date, Vary, Age, Expires, Cache-Control, Content-Location.", &["age::a_304_carries_what_guides_caches_and_nothing_else", "age::a_304_without_an_entity_tag_carries_last_modified"]),
    ("CO-06", "If-Match, If-Unmodified-Since as RFC 9110.", &["precondition::if_match_is_compared_strongly_and_goes_before_if_unmodified_since", "precondition::if_unmodified_since_needs_a_date_on_both_sides"]),
    ("CO-07", "If-Range as RFC 9110.", &["precondition::if_range_needs_a_strong_match"]),
    ("CO-08", "Conditions count for a 2xx alone.", &["precondition::conditions_mean_nothing_for_what_is_no_success"]),
    // Validation.
    ("VL-01", "ETag verbatim, weak too, Last-Modified as the same bytes.", &["validation::validators_go_out_as_the_bytes_that_came"]),
    ("VL-02", "Fields that Vary names are kept.", &["validation::the_clients_conditions_and_range_make_way_and_its_other_fields_stay"]),
    ("VL-03", "On a Vary mismatch the ETags of the other variants are offered.", &["reuse::the_tags_of_other_variants_are_offered_on_a_mismatch", "validation::a_304_on_a_mismatch_of_vary_names_one_of_the_variants"]),
    ("VL-04", "Fields a 304 omits stay, fields it has replace all stored lines of that name.", &["freshen::what_a_304_has_replaces_all_lines_and_what_it_omits_stays", "properties::freshening_loses_no_field"]),
    ("VL-05", "Never Content-Length, Content-Encoding, Content-Range.", &["freshen::what_describes_the_stored_bytes_is_never_replaced"]),
    ("VL-06", "A different strong ETag: refetch.", &["validation::a_304_for_something_else_is_asked_again_without_conditions"]),
    ("VL-07", "A stale response and a client condition: our own validator first, then the client's condition.", &["validation::the_clients_conditions_and_range_make_way_and_its_other_fields_stay", "it::validation::the_clients_condition_is_answered_after_our_own_validation"]),
    ("VL-08", "A 304 unasked, or a 206, reaches nobody.", &["validation::a_304_or_206_that_nothing_asked_for_reaches_nobody"]),
    ("VL-09", "Age starts anew from the 304.", &["freshen::age_starts_anew_from_the_304"]),
    ("VL-10", "What a 304 can't be about is not validated.", &["validation::only_a_successful_response_is_validated"]),
    // Stale.
    ("SL-01", "stale-while-revalidate inside its window and not after it.", &["stale::stale_while_revalidate_serves_within_its_window_only"]),
    ("SL-02", "... with a background validation.", &["it::validation::stale_while_revalidate_answers_at_once_and_validates_behind"]),
    ("SL-03", "stale-if-error on connection failure and 500, 502, 503, 504.", &["stale::a_failed_connection_is_bridged_for_the_configured_bound", "stale::a_server_error_is_bridged_by_a_directive_or_a_rule_alone"]),
    ("SL-04", "Without the directive a configured bound on connection failure.", &["stale::a_failed_connection_is_bridged_for_the_configured_bound"]),
    ("SL-05", "Never with must-revalidate, proxy-revalidate, s-maxage or no-cache.", &["stale::never_with_must_revalidate_proxy_revalidate_s_maxage_or_no_cache", "properties::must_revalidate_is_never_served_stale"]),
    ("SL-06", "Then 504 where the connection failed, the origin's own 5xx where it answered.", &["it::validation::must_revalidate_is_never_served_stale"]),
    ("SL-07", "s-maxage forbids stale-while-revalidate too, unless a key allows it.", &["stale::a_key_may_let_s_maxage_go_with_stale_while_revalidate"]),
    ("SL-10", "Never another variant's.", &["stale::another_variant_is_no_answer_to_a_failure"]),
    ("SL-08", "Not for 401, 403, 404.", &["stale::a_server_error_is_bridged_by_a_directive_or_a_rule_alone"]),
    ("SL-09", "No Warning field.", &["age::a_hit_has_exactly_one_age_and_date_and_expires_as_stored"]),
    // Request directives.
    ("RD-01", "max-age.", &["reuse::request_max_age_bounds_the_age"]),
    ("RD-02", "max-stale, bare too.", &["reuse::request_max_stale_takes_what_is_not_too_stale"]),
    ("RD-03", "min-fresh.", &["reuse::request_min_fresh_wants_time_left"]),
    ("RD-04", "no-cache, and Pragma only without Cache-Control.", &["reuse::request_no_cache_validates_and_pragma_does_without_cache_control", "cache_control::pragma_counts_only_without_cache_control"]),
    ("RD-05", "no-store.", &["reuse::request_no_store_goes_straight_through"]),
    ("RD-06", "only-if-cached: the stored response if there is one, else 504.", &["reuse::only_if_cached_never_goes_to_the_origin", "it::caching::only_if_cached_on_a_miss_is_504_without_asking_anybody"]),
    // On a miss.
    ("MI-01", "Range, conditions, Authorization and Cookie go on as received.", &["it::caching::a_miss_passes_conditions_range_and_credentials_on"]),
    ("MI-02", "Such a request never leads a fetch that others join.", &["request::only_a_plain_get_leads_a_fetch_that_others_join"]),
    ("MI-03", "... and joins only if that response can serve it.", &["request::content_neither_leads_nor_joins", "it::collapse::requests_that_insist_on_the_origin_never_queue"]),
    // A 304 that forbids.
    ("FB-01", "Goes to its requester; the stored response goes.", &["freshen::a_304_that_forbids_goes_to_its_requester_and_takes_the_stored_response_along"]),
    ("FB-02", "Set-Cookie is not merged.", &["freshen::set_cookie_in_a_304_is_for_its_requester_alone"]),
    // immutable.
    ("IM-01", "While fresh, max-age=0 is served; no-cache still validates.", &["reuse::a_fresh_immutable_response_outlives_a_reload_but_not_no_cache"]),
    // Clock.
    ("CK-01", "Resident time is the larger of the wall and the monotonic difference.", &["age::a_clock_set_back_or_a_suspended_machine_does_not_make_it_younger"]),
    // Invalidation.
    ("IN-01", "An unsafe response, a purge or a reload moves the key's generation.", &["it::collapse::an_invalidation_midway_keeps_a_fill_from_being_stored_or_joined", "it::collapse::a_purge_midway_keeps_a_fill_from_being_stored_or_joined", "it::collapse::a_reload_midway_keeps_a_fill_from_being_stored_or_joined"]),
    ("IN-02", "An unsafe or unknown method with 2xx or 3xx removes the target; 4xx and 5xx nothing.", &["invalidation::an_unsafe_or_unknown_method_with_success_removes_the_target"]),
    ("IN-03", "... and Location and Content-Location of the same origin.", &["invalidation::location_and_content_location_of_the_same_origin_go_too"]),
    ("IN-04", "GET and HEAD never do.", &["invalidation::safe_methods_never_remove_anything"]),
    // HEAD.
    ("HD-01", "Freshens the stored GET when validators and length agree.", &["freshen::a_head_response_freshens_where_validators_and_length_agree"]),
    ("HD-02", "Marks it stale when they differ; a 410 too.", &["freshen::a_head_response_that_differs_marks_the_stored_response_stale", "reuse::a_marked_response_is_validated_however_fresh", "freshen::other_answers_to_head_do_nothing"]),
    ("HD-03", "HEAD is answered from a stored GET.", &["reuse::head_is_answered_from_a_stored_get_and_else_goes_on_as_head"]),
    // Ranges.
    ("RG-01", "From a stored 200: a-b, a-, -n, several, 416.", &["precondition::ranges_are_cut_from_a_stored_200", "properties::ranges_lie_within_and_send_no_byte_twice"]),
    ("RG-02", "Several as multipart/byteranges.", &["it::conditions::several_ranges_make_a_multipart_body"]),
    ("RG-03", "A 206 is stored as an incomplete response.", &["partial::a_206_is_stored_as_a_part_of_a_200"]),
    ("RG-04", "It answers contained ranges.", &["partial::a_part_answers_the_ranges_that_it_holds", "partial::a_held_range_is_found_in_the_stored_body"]),
    ("RG-05", "It is combined only on a strong validator.", &["partial::parts_are_combined_only_on_the_same_strong_validator", "partial::parts_of_different_variants_or_codings_are_never_combined", "partial::combined_parts_know_where_their_bytes_are", "partial::combined_fields_are_the_new_ones_over_the_old", "properties::combined_parts_have_the_bytes_of_the_whole"]),
    ("RG-06", "A 206 whose length and Content-Range disagree is not stored.", &["partial::a_206_whose_length_and_content_range_disagree_is_not_stored"]),
    ("RG-07", "What is missing is asked for by its range.", &["partial::the_rest_is_asked_for_where_that_is_one_range", "partial::the_rest_completes_what_is_stored_or_is_fetched_whole"]),
    ("RG-08", "At most so many ranges, and no byte twice.", &["precondition::too_many_ranges_other_methods_and_other_status_codes_get_the_whole", "precondition::overlapping_ranges_are_joined_so_that_no_byte_goes_out_twice"]),
    // Targeted fields.
    ("TG-01", "Valid and non-empty, it replaces Cache-Control and Expires.", &["targeted::a_targeted_field_replaces_cache_control_and_expires"]),
    ("TG-02", "Wrong member types are ignored.", &["targeted::members_of_a_wrong_type_are_ignored_in_a_field_that_still_counts"]),
    ("TG-03", "A parse error ignores the field.", &["targeted::a_malformed_or_empty_field_is_ignored"]),
    ("TG-04", "Integers of up to 15 digits.", &["targeted::integers_have_up_to_fifteen_digits_and_saturate"]),
    ("TG-05", "The field is forwarded.", &["targeted::a_qualified_no_cache_names_fields"]),
    ("TG-06", "A configured list, default empty.", &["targeted::it_means_nothing_when_it_is_not_configured", "targeted::the_first_configured_field_that_is_present_and_valid_counts"]),
    // Contradictions in the public suite.
    ("KC-01", "If-Modified-Since without Last-Modified: the RFC wins.", &["precondition::without_last_modified_date_stands_in"]),
    ("KC-02", "A 206 that claims 6 bytes and has 5 is not stored.", &["partial::a_206_whose_length_and_content_range_disagree_is_not_stored"]),
    ("KC-03", "An unquoted entity tag is neither quoted nor matched by a quoted one.", &["validation::validators_go_out_as_the_bytes_that_came", "precondition::odd_tags_match_by_their_bytes"]),
    // What the suite does not cover.
    ("OW-01", "Hop-by-hop fields are never stored.", &["storable::everything_is_stored_verbatim_but_hop_by_hop_fields"]),
    ("OW-02", "If-Match, If-Unmodified-Since, If-None-Match: *, If-Range.", &["precondition::if_match_is_compared_strongly_and_goes_before_if_unmodified_since", "precondition::if_unmodified_since_needs_a_date_on_both_sides", "precondition::if_none_match_is_compared_weakly_over_lists_and_star", "precondition::if_range_needs_a_strong_match"]),
    ("OW-03", "Bare and exceeded max-stale.", &["reuse::request_max_stale_takes_what_is_not_too_stale"]),
    ("OW-04", "only-if-cached with a stored response.", &["reuse::only_if_cached_never_goes_to_the_origin"]),
    ("OW-05", "HEAD with a changed validator.", &["freshen::a_head_response_that_differs_marks_the_stored_response_stale"]),
    ("OW-06", "Two partials combined.", &["partial::combined_parts_know_where_their_bytes_are", "it::conditions::partial_responses_are_combined_on_a_strong_validator"]),
    ("OW-07", "206, 300, 301, 308, 405, 414, 451, 501 heuristically.", &["freshness::the_heuristic_is_for_the_listed_status_codes_or_public"]),
    ("OW-08", "416.", &["precondition::ranges_are_cut_from_a_stored_200"]),
    ("OW-09", "Multipart ranges.", &["precondition::ranges_are_cut_from_a_stored_200", "it::conditions::several_ranges_make_a_multipart_body"]),
    ("OW-10", "CDN-Cache-Control ignored when not configured.", &["targeted::it_means_nothing_when_it_is_not_configured"]),
    ("OW-11", "Failed partials.", &["it::conditions::a_partial_response_that_breaks_off_is_not_stored"]),
    // The rest that is promised.
    ("TO-01", "Total: no input makes a decision panic or overflow.", &["properties::nothing_panics_or_overflows_on_any_fields_and_times"]),
    ("TO-02", "A response answers the request that it was stored for.", &["properties::a_response_answers_the_request_that_it_was_stored_for"]),
    ("OV-01", "A rule's override is an explicit breach that says so.", &["reuse::what_only_a_rule_made_fresh_says_so", "freshness::a_rule_may_set_bounds_or_force_a_lifetime_and_says_so", "freshness::an_override_is_for_its_status_codes_and_media_types", "storable::a_rule_may_force_storing_but_not_past_authorization_cookies_or_vary"]),
];

/// The files that the tests stand in.
const FILES: &[(&str, &str)] = &[
    ("age", include_str!("age.rs")),
    ("fields", include_str!("fields.rs")),
    ("freshen", include_str!("freshen.rs")),
    ("freshness", include_str!("freshness.rs")),
    ("invalidation", include_str!("invalidation.rs")),
    ("partial", include_str!("partial.rs")),
    ("precondition", include_str!("precondition.rs")),
    ("properties", include_str!("properties.rs")),
    ("request", include_str!("request.rs")),
    ("reuse", include_str!("reuse.rs")),
    ("selection", include_str!("selection.rs")),
    ("stale", include_str!("stale.rs")),
    ("storable", include_str!("storable.rs")),
    ("targeted", include_str!("targeted.rs")),
    ("validation", include_str!("validation.rs")),
    ("cache_control", include_str!("../field/cache_control.rs")),
    ("date", include_str!("../field/date.rs")),
    ("etag", include_str!("../field/etag.rs")),
    ("list", include_str!("../field/list.rs")),
    ("vary", include_str!("../field/vary.rs")),
    ("pooling", include_str!("../upstream/tests/pooling.rs")),
];

/// Why a named test does not show anything; `None` if it is there.
fn missing(test: &str) -> Option<String> {
    let Some((file, name)) = test.split_once("::") else { return Some(format!("{test}: no file")) };
    let source = match (file, name.split_once("::")) {
        ("it", Some((file, _))) => {
            let path = format!("{}/tests/it/{file}.rs", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).ok()
        }
        _ => FILES.iter().find(|(known, _)| *known == file).map(|(_, source)| (*source).to_owned()),
    };
    let Some(source) = source else { return Some(format!("{test}: no such file")) };
    let name = name.rsplit("::").next().unwrap_or(name);
    let signature = format!("fn {name}(");
    let marked = |line: &str| line.trim() == "#[test]" || line.trim().starts_with("#[tokio::test");
    let is_test = source.lines().zip(source.lines().skip(1)).any(|(before, line)| {
        marked(before) && line.trim_start().trim_start_matches("async ").starts_with(&signature)
    });
    (!is_test).then(|| format!("{test}: no such test"))
}

#[test]
fn every_requirement_has_a_test_that_exists() {
    let mut wrong = Vec::new();
    let mut ids = std::collections::HashSet::new();
    for (id, says, tests) in REQUIREMENTS {
        if !ids.insert(id) {
            wrong.push(format!("{id}: stands twice"));
        }
        if tests.is_empty() || says.is_empty() {
            wrong.push(format!("{id}: no test"));
        }
        wrong.extend(tests.iter().filter_map(|test| missing(test)).map(|why| format!("{id}: {why}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_paragraph_lost_a_requirement() {
    let count = |prefix: &str| REQUIREMENTS.iter().filter(|(id, ..)| id.starts_with(prefix)).count();
    for (paragraph, requirements) in [
        ("FW-", 9),
        ("IR-", 6),
        ("CC-", 7),
        ("LT-", 5),
        ("DT-", 6),
        ("AG-", 5),
        ("HE-", 3),
        ("ST-", 15),
        ("SF-", 2),
        ("VA-", 8),
        ("CO-", 8),
        ("VL-", 10),
        ("SL-", 10),
        ("RD-", 6),
        ("MI-", 3),
        ("FB-", 2),
        ("IM-", 1),
        ("CK-", 1),
        ("IN-", 4),
        ("HD-", 3),
        ("RG-", 8),
        ("TG-", 6),
        ("KC-", 3),
        ("OW-", 11),
    ] {
        assert_eq!(count(paragraph), requirements, "{paragraph}");
    }
}
