//! `@supabase/supabase-js`, through a gateway that speaks PostgREST's rules.

use super::*;

#[test]
fn calls_every_function_by_the_names_of_its_arguments() {
    let site = Site::plain();
    site.run("functions.js");
    site.assert_delivered_once();
}

#[test]
fn calls_every_function_after_a_take_over() {
    let site = Site::taken_over();
    site.run("functions.js");
    site.assert_delivered_once();
}

#[test]
fn shows_each_error_with_code_message_details_hint_and_http_status() {
    Site::plain().run("errors.js");
}

#[test]
fn reads_the_views_of_its_own_tenant_and_no_others() {
    Site::plain().run("views.js");
}

#[test]
fn reads_the_views_after_a_take_over() {
    Site::taken_over().run("views.js");
}
