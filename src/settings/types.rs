//! A setting of each type: how it is declared to PostgreSQL and read. The configuration files alone
//! give every setting its value: none is for a session to choose. Knows no setting by name.

use std::ffi::{CStr, CString};
use std::ops::RangeInclusive;
use std::time::Duration;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, GucValue};

const CONTEXT: GucContext = GucContext::Sighup;

/// No unit, and everybody may read it.
pub const PLAIN: GucFlags = GucFlags::empty();

/// A whole number.
pub struct Integer {
    pub name: &'static CStr,
    /// Starts as the default.
    pub value: GucSetting<i32>,
    pub range: RangeInclusive<i32>,
    /// The unit.
    pub flags: GucFlags,
    pub summary: &'static CStr,
    pub detail: &'static CStr,
}

impl Integer {
    pub fn define(&'static self) {
        let (least, most) = (*self.range.start(), *self.range.end());
        GucRegistry::define_int_guc(
            self.name,
            self.summary,
            self.detail,
            &self.value,
            least,
            most,
            CONTEXT,
            self.flags,
        );
    }

    /// Of a range without negative numbers.
    pub fn count(&self) -> usize {
        usize::try_from(self.value.get()).unwrap_or(0)
    }

    /// Of a setting in ms.
    pub fn milliseconds(&self) -> Duration {
        Duration::from_millis(self.count() as u64)
    }

    /// Of a setting in s.
    pub fn seconds(&self) -> Duration {
        Duration::from_secs(self.count() as u64)
    }
}

/// A setting of another type than a number.
pub struct Setting<V: GucValue> {
    pub name: &'static CStr,
    /// Starts as the default.
    pub value: GucSetting<V>,
    /// Who may read it.
    pub flags: GucFlags,
    pub summary: &'static CStr,
    pub detail: &'static CStr,
}

/// A text.
pub type Text = Setting<Option<CString>>;

/// On or off.
pub type Switch = Setting<bool>;

impl Text {
    pub fn define(&'static self) {
        GucRegistry::define_string_guc(
            self.name,
            self.summary,
            self.detail,
            &self.value,
            CONTEXT,
            self.flags,
        );
    }

    /// Without the white space around it.
    pub fn trimmed(&self) -> String {
        self.value
            .get()
            .map(|value| value.to_string_lossy().trim().to_string())
            .unwrap_or_default()
    }
}

impl Switch {
    pub fn define(&'static self) {
        GucRegistry::define_bool_guc(
            self.name,
            self.summary,
            self.detail,
            &self.value,
            CONTEXT,
            self.flags,
        );
    }
}
