"""psycopg on sessions of `authenticator`: adaption of types, prepared statements, pipelines, transactions."""

import json
import os
import unittest
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID, uuid4

import psycopg
from psycopg.types.json import Jsonb

SITE = json.loads(os.environ["SITE"])
TENANT, OTHER_TENANT = UUID(SITE["tenant"]), UUID(SITE["other_tenant"])
INSTALL = "select rpc_install_plugin(p_tenant_id => %s, p_plugin_key => %s, p_config => %s)"


@contextmanager
def user(connection, tenant=TENANT, role="authenticated", permissions=("tenant.admin",)):
    """A transaction with the role and the claims of some user."""
    claims = {"role": role, "sub": str(uuid4()), "tenant_id": str(tenant), "permissions": permissions}
    with connection.transaction():
        connection.execute(
            "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true)",
            [role, json.dumps(claims)],
        )
        yield connection


def value(connection, query, parameters=None, **options):
    return connection.execute(query, parameters, **options).fetchone()[0]


class Calls(unittest.TestCase):
    def setUp(self):
        self.connection = psycopg.connect(autocommit=True)
        self.addCleanup(self.connection.close)
        with user(self.connection, role="service_role") as backend:
            for key in ("desk", "till"):
                value(backend, "select rpc_register_plugin(%s, %s)", [key, key])

    def test_types_of_python_go_in_and_come_out(self):
        config = {"webhook_url": SITE["receiver"], "own": ["ä€", {"two": None}]}
        with user(self.connection) as admin:
            installation = value(admin, INSTALL, [TENANT, "desk", Jsonb(config)])
            self.assertIsInstance(installation, UUID)
            subscription = value(
                admin,
                """select rpc_upsert_plugin_webhook_subscription(
                       p_tenant_id => %(tenant)s, p_installation_id => %(installation)s, p_table_schema => 'public',
                       p_table_name => 'items', p_operations => %(operations)s,
                       p_changed_fields_allowlist => %(allowlist)s, p_include_payload => %(payload)s)""",
                {
                    "tenant": TENANT,
                    "installation": installation,
                    "operations": ["INSERT", "DELETE"],
                    "allowlist": ['a, "b" {}', "ä"],
                    "payload": True,
                },
            )
            # No value, no argument: None is null, which keeps the old value.
            update = "select rpc_update_plugin_installation(%s, %s, %s, %s, %s)"
            self.assertEqual(value(admin, update, [TENANT, installation, None, None, None]), "")
            rows = {}
            for binary in (False, True):
                with admin.cursor(binary=binary) as cursor:
                    cursor.execute(
                        """select s.id, s.operations, s.changed_fields_allowlist, s.include_payload, s.created_at,
                                  i.config
                           from v_plugin_webhook_subscriptions s
                           join v_plugin_installations i on i.id = s.plugin_installation_id where s.id = %s""",
                        [subscription],
                    )
                    rows[binary] = cursor.fetchone()
            self.assertEqual(rows[False], rows[True])
            expected = (subscription, ["INSERT", "DELETE"], ['a, "b" {}', "ä"], True)
            self.assertEqual(rows[True][:4], expected)
            self.assertIsInstance(rows[True][4], datetime)
            self.assertIsNotNone(rows[True][4].tzinfo)
            self.assertEqual(rows[True][5], config)
        with user(self.connection, role="service_role") as backend:
            for size in (None, 5, 40_000):
                self.assertIsInstance(value(backend, "select rpc_process_plugin_deliveries(%s)", [size]), int)

    def test_parameters_in_binary_format(self):
        config = {"webhook_url": SITE["receiver"]}
        with user(self.connection) as admin:
            query = "select rpc_install_plugin(%b, %b, p_config => %b)"
            installation = value(admin, query, [TENANT, "desk", Jsonb(config)], binary=True)
            self.assertIsInstance(installation, UUID)
            subscribe = "select rpc_upsert_plugin_webhook_subscription(%b, %b, %b, %b, %b, p_include_payload => %b)"
            parameters = [TENANT, installation, "public", "items", ["INSERT"], False]
            self.assertIsInstance(value(admin, subscribe, parameters, binary=True), UUID)
            query = "select config from v_plugin_installations where id = %b"
            self.assertEqual(value(admin, query, [installation], binary=True), config)

    def test_a_str_is_a_uuid_in_text_format_only(self):
        with user(self.connection) as admin:
            self.assertIsInstance(value(admin, INSTALL, [str(TENANT), "desk", None]), UUID)
            with self.assertRaises(psycopg.errors.UndefinedFunction):
                value(admin, "select rpc_install_plugin(%b, %b)", [str(TENANT), "desk"])

    def test_statements_prepared_at_once_serve_every_tenant_with_its_own_rows(self):
        self.connection.prepare_threshold = 0
        query = "select tenant_id from v_plugin_installations where plugin_key = %s"
        for _ in range(8):
            for tenant in (TENANT, OTHER_TENANT):
                with user(self.connection, tenant) as admin:
                    value(admin, INSTALL, [tenant, "till", None])
                    self.assertEqual(admin.execute(query, ["till"]).fetchall(), [(tenant,)])
            with user(self.connection, permissions=()) as member:
                self.assertEqual(member.execute(query, ["till"]).fetchall(), [])
        prepared = "select count(*) from pg_prepared_statements where statement like '%rpc_install_plugin%'"
        self.assertEqual(value(self.connection, prepared, prepare=False), 1)

    def test_a_pipeline_of_calls(self):
        config = Jsonb({"webhook_url": SITE["receiver"]})
        with user(self.connection) as admin, admin.pipeline():
            cursors = [admin.execute(INSTALL, [TENANT, key, config]) for key in ("desk", "till", "desk")]
            first, second, third = (cursor.fetchone()[0] for cursor in cursors)
        self.assertEqual(first, third)
        self.assertNotEqual(first, second)

    def test_an_error_in_a_pipeline_ends_it_and_its_transaction(self):
        with self.assertRaises(psycopg.errors.RaiseException):
            with user(self.connection) as admin, admin.pipeline() as pipeline:
                uninstall = "select rpc_uninstall_plugin(%s, id) from v_plugin_installations where plugin_key = 'desk'"
                admin.execute(uninstall, [TENANT])
                admin.execute(INSTALL, [TENANT, "unheard_of", None])
                admin.execute(INSTALL, [TENANT, "desk", None])
                pipeline.sync()
        with user(self.connection) as admin:
            value(admin, INSTALL, [TENANT, "desk", None])

    def test_each_error_is_the_class_of_its_sqlstate(self):
        errors = psycopg.errors
        for parameters, expected in (
            ([TENANT, "", None], errors.CheckViolation),
            ([TENANT, "unheard_of", None], errors.RaiseException),
            ([OTHER_TENANT, "desk", None], errors.InsufficientPrivilege),
            ([TENANT, "desk", Jsonb({"webhook_url": "ftp://a"})], errors.InvalidParameterValue),
        ):
            with self.assertRaises(expected) as caught:
                with user(self.connection) as admin:
                    value(admin, INSTALL, parameters)
            self.assertTrue(caught.exception.diag.message_primary)
        self.assertRegex(caught.exception.diag.message_hint, "^webhook_url: ")
        with self.assertRaises(errors.UndefinedFunction):
            with user(self.connection, role="service_role") as backend:
                # A Python int that large is a bigint, which PostgreSQL does not make an integer by itself.
                value(backend, "select rpc_process_plugin_deliveries(%s)", [3_000_000_000])

    def test_a_nested_transaction_that_fails_leaves_the_outer_one_alone(self):
        with user(self.connection) as admin:
            for key, expected in (("", psycopg.errors.CheckViolation), ("unheard_of", psycopg.errors.RaiseException)):
                with self.assertRaises(expected), admin.transaction():
                    value(admin, INSTALL, [TENANT, key, None])
            self.assertIsInstance(value(admin, INSTALL, [TENANT, "desk", None]), UUID)

    def test_with_autocommit_nothing_stays_for_the_next_statement(self):
        with user(self.connection) as admin:
            value(admin, INSTALL, [TENANT, "desk", None])
        settings = "select coalesce(current_setting(%s, true), '')"
        for name in ("request.jwt.claims", "app.current_tenant_id"):
            self.assertEqual(value(self.connection, settings, [name]), "")
        with self.assertRaises(psycopg.errors.InsufficientPrivilege):
            value(self.connection, INSTALL, [TENANT, "desk", None])

    def test_without_autocommit_a_rollback_undoes_the_call(self):
        key = f"k_{uuid4().hex}"
        with psycopg.connect() as connection:
            connection.execute("set local role service_role")
            value(connection, "select rpc_register_plugin(%s, 'Never')", [key])
            connection.rollback()
            connection.execute("set local role anon")
            self.assertEqual(value(connection, "select count(*) from v_plugins where key = %s", [key]), 0)

    def test_cursors_on_the_server_and_copy_read_the_views(self):
        with user(self.connection) as admin:
            rows = [(TENANT, f"item {n}") for n in range(30)]
            with admin.cursor() as cursor:
                cursor.executemany("insert into items (tenant_id, title) values (%s, %s)", rows)
            query = "select new_data->>'title' from v_audit_entity_changes where table_name = 'items' order by id"
            with admin.cursor("changes", binary=True) as cursor:
                cursor.itersize = 7
                titles = [title for (title,) in cursor.execute(query)]
            self.assertEqual(titles, [title for _, title in rows])
            with admin.cursor().copy(f"copy ({query}) to stdout") as copy:
                self.assertEqual([title for (title,) in copy.rows()], titles)


if __name__ == "__main__":
    unittest.main()
