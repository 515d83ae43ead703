use super::*;

#[test]
fn is_that_of_each_statement() {
    let mut model = Model::with_rows();
    model.run(
        "select set_config('request.jwt.claims', '{\"sub\": \"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"}', false),
                set_config('request.headers', '{\"x-forwarded-for\": \"203.0.113.7, \
                10.0.0.1\", \"user-agent\": \"curl\"}', false);
         insert into t (id) values (10);
         select set_config('request.headers', '{\"x-forwarded-for\": \"nonsense\"}', false);
         insert into t (id) values (11);
         select set_config('request.jwt.claims', 'no json', false), set_config('request.headers', '', false);
         insert into t (id) values (12);",
    );
    let origins: String = value(
        &mut model.client,
        "select string_agg(concat_ws(' ', record_id, user_id, host(ip_address), user_agent), ', ' order by id)
         from audit.entity_changes where record_id::int >= 10",
    );
    assert_eq!(
        origins,
        "10 a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 203.0.113.7 curl, 11 a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 127.0.0.1, \
        12 127.0.0.1"
    );
}
